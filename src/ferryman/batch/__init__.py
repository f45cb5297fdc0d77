"""Ask a bundle about a whole table or folder: in chunks that survive any end, with the drift of all of it."""
