"""Price servers that a competent user would write with other libraries, for `tradestack bench fanout`."""
