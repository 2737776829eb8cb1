"""Tests of the package that all processes share."""
