"""Attacks on a live server under the production settings, on loopback."""
