"""Points: systems, triggers, the award ledger, balances and levels. The saga's pivot: the last that can say
no.
"""
