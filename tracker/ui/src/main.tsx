import "uplot/dist/uPlot.min.css";
import "./styles.css";
import { render } from "preact";
import { App } from "./app";
import { followMlflowLink } from "./mlflowlinks";

followMlflowLink();
render(<App />, document.getElementById("app")!);
