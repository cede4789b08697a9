"""Listens to cases' signals, inside their transactions."""
