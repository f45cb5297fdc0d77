"""Keep many boxes at the right version: slots that survive power cuts, updates that boxes pull, groups in turn."""
