"""The model and the pictures that the demo runs on."""
