#define RECAST_ISA avx512
#include "rows.inc"
