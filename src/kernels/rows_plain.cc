#define RECAST_ISA plain
#include "rows.inc"
