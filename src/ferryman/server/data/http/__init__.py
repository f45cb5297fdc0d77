"""Speak HTTP/1.1 and WebSocket: bytes to requests, answers to bytes; no word of models here."""
