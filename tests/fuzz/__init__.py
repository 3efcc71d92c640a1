"""Messages with something wrong in them, and servers that have to say so."""
