"""Plan candidates, run them, repair what breaks the contract, choose and bundle."""
