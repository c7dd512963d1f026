"""Verbs: what a user can ask for, a file each; the shell and Python call the same ones."""
