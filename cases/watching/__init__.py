"""Folders that scanners write to: what lies there complete goes into the intake."""
