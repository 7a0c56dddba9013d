"""Policies that act without this project."""
