"""One adapter per external system; secrets and the environment enter the program only here."""
