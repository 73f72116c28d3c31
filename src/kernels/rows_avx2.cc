#define RECAST_ISA avx2
#include "rows.inc"
