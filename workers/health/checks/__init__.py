"""The checks of `r8scan doctor`. Each checks one thing that the service needs, and says what is wrong and what to
do.
"""
