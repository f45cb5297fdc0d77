"""Who may call: keys, tokens, rates."""
