"""Deployment of the web pages."""
