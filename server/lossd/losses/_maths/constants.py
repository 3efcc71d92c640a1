"""Natural logarithms, for formulas and for cases worked by hand."""

import math

LOG_2, LOG_3, LOG_4, LOG_10 = math.log(2), math.log(3), math.log(4), math.log(10)
