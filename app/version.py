"""The service's name and version."""

NAME = "ChatGLM API"
VERSION = "0.1.0"
