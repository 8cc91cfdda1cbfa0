package tree

import "unicode/utf8"

// isSpecial reports whether a character may only be written as an escape: YAML does
// not accept the others, and U+2028 and U+2029 end a line for some readers.
func isSpecial(r rune) bool {
	return r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffe || r == 0xffff
}

// AppendString appends the text as a string that is one in JSON and, in quotes, in
// YAML.
func AppendString(b []byte, text string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, size := utf8.DecodeRuneInString(text[i:])
			if isSpecial(r) {
				b = append(b, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			} else {
				b = utf8.AppendRune(b, r) // U+FFFD where it is not UTF-8
			}
			i += size
			continue
		}
		i++
	}
	return append(b, '"')
}
