/** The parts of ECharts that a sweep's charts are made of: a file of its own, loaded when one is shown. */

import { ParallelChart, ScatterChart } from "echarts/charts";
import { GridComponent, ParallelComponent, VisualMapContinuousComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { ScatterJitter } from "echarts/features";
import { CanvasRenderer, SVGRenderer } from "echarts/renderers";

use([ParallelChart, ScatterChart, GridComponent, ParallelComponent, VisualMapContinuousComponent, ScatterJitter, CanvasRenderer, SVGRenderer]);

export { init };
