package main

import (
	"fmt"
	"html"
	"strings"
)

// Sizes of a chart, in pixels.
const (
	chartWidth = 760
	barTop     = 46
	barHeight  = 26
	labelWidth = 360
	barWidth   = 320
)

// chart draws the ratios of a group as bars, with the first as the line that the
// others are compared with.
func chart(g *groupResult, r *report) string {
	most := 1.0
	medians := make([]float64, len(g.Rows))
	for i, row := range g.Rows {
		medians[i] = row.ratio(g.Rows[0])
		most = max(most, medians[i])
	}
	scale := barWidth / most
	height := barTop + len(g.Rows)*barHeight + 34
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" font-family="sans-serif" font-size="13">`+"\n",
		chartWidth, height, chartWidth, height)
	fmt.Fprintf(&b, "<title>CPU per request: %s</title>\n", html.EscapeString(g.What))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", chartWidth, height)
	fmt.Fprintf(&b, `<text x="10" y="24" font-size="15" font-weight="bold">CPU per request: %s</text>`+"\n", html.EscapeString(g.What))
	for i, row := range g.Rows {
		y := barTop + i*barHeight
		color := "#7a8794"
		if row.Bar > 0 {
			color = "#0b7285"
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWidth-8, y+17, html.EscapeString(row.Name))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y+4, medians[i]*scale, barHeight-8, color)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%.2f</text>`+"\n", labelWidth+medians[i]*scale+6, y+17, medians[i])
	}
	line := labelWidth + scale
	fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#c92a2a" stroke-dasharray="4 3"/>`+"\n", line, line, barTop, barTop+len(g.Rows)*barHeight)
	fmt.Fprintf(&b, `<text x="10" y="%d" fill="#555" font-size="11">%s, %s. 1.00 is %s; less is better. %s</text>`+"\n", height-12,
		html.EscapeString(r.Machine), r.Date, html.EscapeString(g.Rows[0].Name), html.EscapeString(r.Command))
	return b.String() + "</svg>\n"
}
