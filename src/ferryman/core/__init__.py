"""The nouns of Ferryman: one a file, framework-free."""
