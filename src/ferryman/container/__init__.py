"""Start an image as its users would, under the limits of the contract, and check what it promised."""
