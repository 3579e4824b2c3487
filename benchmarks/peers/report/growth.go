package main

import (
	"bytes"
	"image/color"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var (
	sessionCounts = []int{1_000, 10_000, 100_000, 1_000_000}
	deniedCounts  = []int{0, 10, 100, 1_000, 10_000, 100_000}
)

// A line is a benchmark's unit over its counts.
type line struct {
	label, prefix, unit string
	scale               float64
}

// figure returns the growth as SVG.
func figure(r *results) ([]byte, error) {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	cost, err := panel(r, "Cost by sessions", "µs", sessionCounts, []line{
		{"Sessions", "Growth/sessions=", "sessions-ns", 1e-3},
		{"Refresh", "Growth/sessions=", "refresh-ns", 1e-3},
		{"Revoke", "Growth/sessions=", "revoke-ns", 1e-3},
		{"Verify, any of 20,000", "Growth/sessions=", "verify-any-ns", 1e-3},
		{"Verify, one token", "Growth/sessions=", "verify-one-ns", 1e-3},
	})
	if err != nil {
		return nil, err
	}
	memory, err := panel(r, "Memory by sessions", "bytes a session", sessionCounts, []line{
		{"MemoryStore", "Growth/sessions=", "B/session", 1},
	})
	if err != nil {
		return nil, err
	}
	denied, err := panel(r, "Cost by revoked sessions", "ns", deniedCounts, []line{
		{"Verify", "Growth_denyList/denied=", "verify-ns", 1},
	})
	if err != nil {
		return nil, err
	}
	cost.Y.Scale, cost.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	cost.Y.Max *= 6 // room for the legend
	for _, p := range []*plot.Plot{memory, denied} {
		p.Y.Min, p.Y.Max = 0, 1.4*p.Y.Max
	}

	canvas := vgsvg.New(12*vg.Inch, 4*vg.Inch)
	tiles := draw.Tiles{Rows: 1, Cols: 3, PadX: 24, PadLeft: 8, PadRight: 8, PadTop: 8,
		PadBottom: 8}
	plots := [][]*plot.Plot{{cost, memory, denied}}
	for i, c := range plot.Align(plots, tiles, draw.New(canvas))[0] {
		plots[0][i].Draw(c)
	}
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return nil, err
	}
	// Who has no Liberation fonts gets others without serifs.
	return bytes.ReplaceAll(svg.Bytes(), []byte("Liberation Sans"),
		[]byte("Liberation Sans,Arial,Helvetica,sans-serif")), nil
}

var lineColors = []color.Color{
	color.RGBA{R: 0x1f, G: 0x77, B: 0xb4, A: 0xff}, color.RGBA{R: 0xd6, G: 0x27, B: 0x28, A: 0xff},
	color.RGBA{R: 0x2c, G: 0xa0, B: 0x2c, A: 0xff}, color.RGBA{R: 0x94, G: 0x67, B: 0xbd, A: 0xff},
	color.RGBA{R: 0xff, G: 0x7f, B: 0x0e, A: 0xff},
}

func panel(r *results, title, unit string, counts []int, lines []line) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = title, unit
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	var names []string
	for _, n := range counts {
		names = append(names, power(n))
	}
	p.NominalX(names...)
	for i, l := range lines {
		var points plotter.XYs
		for x, n := range counts {
			points = append(points,
				plotter.XY{X: float64(x), Y: l.scale * r.median(l.prefix+strconv.Itoa(n), l.unit)})
		}
		drawn, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		drawn.Color, drawn.Width = lineColors[i], 1.5
		marks.Color, marks.Shape = lineColors[i], draw.CircleGlyph{}
		p.Add(drawn, marks)
		p.Legend.Add(l.label, drawn, marks)
	}
	return p, nil
}

// power writes a power of ten.
func power(n int) string {
	zeros := strings.Count(strconv.Itoa(n), "0")
	if n == 0 {
		return "0"
	}
	return "10" + string([]rune("⁰¹²³⁴⁵⁶⁷⁸⁹")[zeros])
}
