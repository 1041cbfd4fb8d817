/** The few icons there are, drawn in the colour of the text around them. */
import type { JSX } from "preact"

const icon = (path: string, label?: string): (() => JSX.Element) => {
  const Icon = (): JSX.Element => (
    <svg
      class="icon"
      viewBox="0 0 24 24"
      {...(label === undefined ? { "aria-hidden": "true" } : { role: "img", "aria-label": label })}
    >
      <path d={path} />
    </svg>
  )
  return Icon
}

export const Back = icon("M15 5l-7 7 7 7")
export const Plus = icon("M12 5v14M5 12h14")
export const Send = icon("M5 12h13M12.5 5.5L19 12l-6.5 6.5")
export const Close = icon("M6 6l12 12M18 6L6 18")
export const More = icon("M12 6.01v-.02M12 12.01v-.02M12 18.01v-.02")
export const Down = icon("M12 5v13M6 12.5l6 6 6-6")
export const People = icon(
  "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.4-3.6 3-5.5 6.5-5.5s6.1 1.9 6.5 5.5M16 4.5a3.3 3.3 0 0 1 0 6.2M18 15c2 .7 3.2 2.4 3.5 5"
)
export const Leave = icon("M10 4H6a1 1 0 0 0-1 1v14a1 1 0 0 0 1 1h4M15 8l4 4-4 4M19 12H9.5")
export const Reply = icon("M9 6l-5 5 5 5M4.5 11H14c3.5 0 6 2.5 6 6v1")
export const Edit = icon("M4.5 19.5l1-4L16 5l3 3L8.5 18.5zM14 7l3 3")
export const Copy = icon("M9 9h10v11H9zM5 15V4h10")
export const Delete = icon("M4.5 7h15M9.5 7V4.5h5V7M6.5 7l1 12.5h9l1-12.5")
export const Clock = icon("M12 4.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15zM12 8v4.2l2.8 1.7", "Sending")
export const Sent = icon("M6 12.5l4 4 8-9", "Sent")
export const Persisted = icon("M6 12.5l4 4 8-9", "Stored")
export const Delivered = icon("M2.5 12.5l4 4 8-9M11.5 15.5l1 1 8-9", "Delivered")
export const Seen = icon("M2.5 12.5l4 4 8-9M11.5 15.5l1 1 8-9", "Seen")
export const Failed = icon("M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v5M12 16.01v-.02", "Not sent")
