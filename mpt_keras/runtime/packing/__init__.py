"""Operations of a plan, packed: kernels, tables and layouts for each."""
