import { render } from "preact";
import { start } from "./state.ts";
import "./style/base.css";
import "./style/map.css";
import "./style/data.css";
import { App } from "./view/app.tsx";

start();
render(<App />, document.getElementById("app")!);
