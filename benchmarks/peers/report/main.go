// Command report makes the tables and the figure of docs/benchmarks.md from the output of the
// benchmarks.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
)

const (
	beginMarker = "<!-- make bench-peers writes from here -->\n"
	endMarker   = "<!-- to here -->\n"
)

func main() {
	input := flag.String("results", "results.txt", "what the benchmarks printed")
	pageFile := flag.String("page", "../../docs/benchmarks.md",
		"where the tables go, between the markers")
	svg := flag.String("svg", "../../docs/growth.svg", "where the figure goes")
	flag.Parse()
	if err := run(*input, *pageFile, *svg); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(input, pageFile, svg string) error {
	page, err := os.ReadFile(pageFile)
	if err != nil {
		return err
	}
	newPage, drawing, err := report(input, page)
	if err != nil {
		return err
	}
	if err := os.WriteFile(pageFile, newPage, 0o644); err != nil {
		return err
	}
	return os.WriteFile(svg, drawing, 0o644)
}

// report returns the page with new tables, and the figure.
func report(input string, page []byte) (newPage, svg []byte, err error) {
	f, err := os.Open(input)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	r, err := readResults(f, input)
	if err != nil {
		return nil, nil, err
	}
	before, rest, ok1 := bytes.Cut(page, []byte(beginMarker))
	_, after, ok2 := bytes.Cut(rest, []byte(endMarker))
	if !ok1 || !ok2 {
		return nil, nil, errors.New("the page does not have both markers")
	}
	newPage = bytes.Join([][]byte{before, []byte(beginMarker + "\n" + tables(r) + "\n" + endMarker), after}, nil)
	svg, err = figure(r)
	return newPage, svg, errors.Join(err, r.err)
}
