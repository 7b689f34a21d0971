/* Vectors of the width that the processor has, by the compilers' extension. */
#ifndef MPT_VECTORS_H
#define MPT_VECTORS_H

#include <stdint.h>

/* Bytes of a vector: 64 (AVX-512), 32 (AVX2), 16 (SSE2, NEON, wasm); 4 where
   there are none. */
#ifndef MPT_WIDTH
#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define MPT_WIDTH 64
#elif defined(__AVX2__)
#define MPT_WIDTH 32
#elif defined(__SSE2__) || defined(__ARM_NEON) || defined(__wasm_simd128__)
#define MPT_WIDTH 16
#else
#define MPT_WIDTH 4
#endif
#endif

/* In the library kernels are visible; in a file of one network they are not,
   and not all of a source file need be called. */
#ifndef MPT_KERNEL
#define MPT_KERNEL static __attribute__((unused))
#endif

/* The arena is bytes, and these look into it. */
typedef float real __attribute__((may_alias));
typedef uint64_t word __attribute__((may_alias));

typedef float floats __attribute__((vector_size(MPT_WIDTH)));
typedef int32_t ints __attribute__((vector_size(MPT_WIDTH)));
/* The same in memory, on any address of a float. */
typedef float floats_at
    __attribute__((vector_size(MPT_WIDTH), may_alias, aligned(4)));
enum { LANES = MPT_WIDTH / 4 };

#endif
