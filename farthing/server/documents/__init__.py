"""Documents of the person at the machine: kept, searched, quoted to the model, and its citations held to them."""
