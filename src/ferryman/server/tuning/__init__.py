"""Find the best way to serve a bundle on this machine: real servers, real arrivals, a time budget."""
