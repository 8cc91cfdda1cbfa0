package merge

import (
	"strings"
	"unicode/utf8"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// maxDescription is how much of a service's description is in that of the merged
// document, in bytes.
const maxDescription = 16 << 10

// describe adds what the service's document says about itself to the description
// of the merged document.
func (m *Merger) describe(s Service, root tree.Value) {
	info := root.Get("info")
	m.about.WriteString("## " + markdown(s.Name) + "\n\n")
	title, version := info.Get("title").Text(), info.Get("version").Text()
	if title != "" || version != "" {
		m.about.WriteString("**" + markdown(strings.TrimSpace(cut(title, 200)+" "+cut(version, 50))) + "**\n\n")
	}
	if !root.Exists() {
		m.about.WriteString("No document describes this service.\n\n")
	}
	if text := strings.TrimSpace(cut(info.Get("description").Text(), maxDescription)); text != "" {
		m.about.WriteString(text + "\n\n")
	}
	for _, note := range s.Notes {
		m.about.WriteString("- " + markdown(note) + "\n")
	}
	if len(s.Notes) > 0 {
		m.about.WriteString("\n")
	}
}

// cut returns at most n bytes of a text, whole characters of it.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// markdown returns a text in which nothing has a meaning in Markdown.
func markdown(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\r':
			r = ' '
		case strings.ContainsRune("\\`*_{}[]()<>#+-!|&~", r):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
