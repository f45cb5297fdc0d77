"""From an alert to something that is done about it: rarely, once, and with its cause written down."""
