"""Tickets for other engines: written, reloaded there, compared, reported."""

from mpt_keras.engines.benchmarking import Benchmark as Benchmark
from mpt_keras.engines.benchmarking import Variant as Variant
from mpt_keras.engines.benchmarking import benchmark as benchmark
from mpt_keras.engines.differences import Differences as Differences
from mpt_keras.engines.exporting import ENGINES as ENGINES
from mpt_keras.engines.exporting import export as export
from mpt_keras.engines.report import ExportReport as ExportReport
from mpt_keras.engines.report import LayerReport as LayerReport
