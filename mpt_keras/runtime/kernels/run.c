/* Images in, calls of kernels, results out. */
#include "vectors.h"

/* Images [image][row][column][channel] to planes
   [channel][row][column][image]. */
struct images_to_planes {
  int32_t output; /* offset in the arena */
  int32_t channels, pixels, images;
};

MPT_KERNEL void images_to_planes(const struct images_to_planes *k,
                                 const float *images, char *arena) {
  real *output = (real *)(arena + k->output);
  for (int32_t i = 0; i < k->images; i++)
    for (int32_t p = 0; p < k->pixels; p++)
      for (int32_t c = 0; c < k->channels; c++)
        output[(c * k->pixels + p) * k->images + i] = *images++;
}

struct planes_to_images {
  int32_t input;
  int32_t channels, pixels, images;
};

MPT_KERNEL void planes_to_images(const struct planes_to_images *k,
                                 const char *arena, float *images) {
  const real *input = (const real *)(arena + k->input);
  for (int32_t i = 0; i < k->images; i++)
    for (int32_t p = 0; p < k->pixels; p++)
      for (int32_t c = 0; c < k->channels; c++)
        *images++ = input[(c * k->pixels + p) * k->images + i];
}

#ifdef MPT_LIBRARY

struct step_of_run {
  void (*kernel)(const void *fields, char *arena);
  const void *fields;
};

MPT_KERNEL void run(const struct step_of_run *steps, int32_t count,
                    const struct images_to_planes *from, const float *images,
                    const struct planes_to_images *to, float *results,
                    char *arena) {
  images_to_planes(from, images, arena);
  for (int32_t i = 0; i < count; i++) steps[i].kernel(steps[i].fields, arena);
  planes_to_images(to, arena, results);
}

#endif
