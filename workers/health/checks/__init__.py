"""The checks of `r8scan doctor`. Each check tests one thing that the service needs, and says what is wrong."""
