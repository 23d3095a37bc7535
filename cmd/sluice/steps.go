package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"sluice"
)

// titleWidth is as wide as the longest title of a step.
const titleWidth = 41

// printStep prints one line, and what to do below it where something is wrong.
func printStep(w io.Writer, s sluice.Step) {
	mark := map[sluice.StepState]string{sluice.StepOK: "ok", sluice.StepWarning: "WARN", sluice.StepFailed: "FAIL", sluice.StepSkipped: "-"}[s.State]
	pad := strings.Repeat(" ", max(0, titleWidth-utf8.RuneCountInString(s.Title)))
	fmt.Fprintf(w, "%-4s  %s%s  %6.0f ms  %s\n", mark, s.Title, pad, s.Milliseconds, s.Detail)
}

// worstOf is the first step that failed, else the first with a warning.
func worstOf(steps []sluice.Step) *sluice.Step {
	for _, state := range []sluice.StepState{sluice.StepFailed, sluice.StepWarning} {
		for i := range steps {
			if steps[i].State == state {
				return &steps[i]
			}
		}
	}
	return nil
}

// printVerdict ends with what matters.
func printVerdict(w io.Writer, worst *sluice.Step, skipped int) {
	if worst == nil && skipped > 0 {
		fmt.Fprintf(w, "\nALL IS WELL, but %d not tried\n", skipped)
		return
	}
	if worst == nil {
		fmt.Fprintln(w, "\nALL IS WELL")
		return
	}
	word := "FAILED"
	if worst.State == sluice.StepWarning {
		word = "WARNING"
	}
	fmt.Fprintf(w, "\n%s: %s (%s)\n\n  %s\n", word, worst.Title, worst.Cause, worst.Detail)
	if worst.Hint != "" {
		fmt.Fprintf(w, "\nNEXT: %s\n", worst.Hint)
	}
}
