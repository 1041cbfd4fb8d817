import { render } from "preact"
import { App } from "./app.tsx"
import { resume } from "./model.ts"
import "./style/base.css"
import "./style/list.css"
import "./style/thread.css"
import "./style/dialogs.css"

const root = document.getElementById("app")
if (root === null) throw new Error("index.html has no element #app")
void resume()
render(<App />, root)
