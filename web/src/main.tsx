import "../../farthing/report/static/palette.css";
import "katex/dist/katex.css";
import "./styles/page.css";
import "./styles/side.css";
import "./styles/thread.css";
import "./styles/beside.css";
import "./styles/prose.css";
import "./styles/composer.css";
import "./styles/documents.css";

import { render } from "preact";
import { start } from "./state";
import { App } from "./view/App";

const root = document.getElementById("app");
if (root) render(<App />, root);
void start();
