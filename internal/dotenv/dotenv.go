// Package dotenv reads files of environment variables.
package dotenv

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Default is the file that is read where none is named, if it exists.
const Default = ".env"

// variable is a line of an environment file.
type variable struct{ name, value string }

// AddFlag adds the flag for an environment file, also by the name that it has in
// Caddy's commands.
func AddFlag(flags interface {
	StringVar(to *string, name, value, usage string)
}, path *string,
) {
	flags.StringVar(path, "env-file", "", "File of environment variables (default: "+Default+", if it exists)")
	flags.StringVar(path, "envfile", "", "Alias of --env-file")
}

// Load sets the variables of a file that are not set yet. Without a path it is the
// default one, which need not exist.
func Load(path string) error {
	variables, err := read(cmp.Or(path, Default))
	if path == "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, v := range variables {
		if _, exists := os.LookupEnv(v.name); exists {
			continue
		}
		if err := os.Setenv(v.name, v.value); err != nil {
			return fmt.Errorf("%s: %s: %w", cmp.Or(path, Default), v.name, err)
		}
	}
	return nil
}

// Lookup returns a variable as it is after Load, for a command that asks about another
// process: of the default file, which may be that of another program, no error counts.
func Lookup(path, name string) (string, error) {
	variables, err := read(cmp.Or(path, Default))
	if err != nil && path != "" {
		return "", err
	}
	if value, ok := os.LookupEnv(name); ok {
		return strings.TrimSpace(value), nil
	}
	for _, v := range variables {
		if v.name == name {
			return strings.TrimSpace(v.value), nil
		}
	}
	return "", nil
}

// read returns the variables of a file.
func read(path string) ([]variable, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the environment file: %w", err)
	}
	variables, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return variables, nil
}

// parse reads lines NAME=value. A value may be in single quotes, and is
// then what it says, or in double quotes, with \n, \r, \t, \", \\ and \$; both
// may go over several lines. Otherwise it ends at the end of the line or at a
// number sign with a space before it. Nothing is expanded: a secret may have
// dollar signs. The last of several lines for one name counts.
func parse(text string) (variables []variable, err error) {
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	index := map[string]int{}
	for number := 1; text != ""; {
		line, rest, _ := strings.Cut(text, "\n")
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' {
			text = rest
			number++
			continue
		}
		trimmed = strings.TrimLeft(strings.TrimPrefix(trimmed, "export "), " \t")
		name, _, ok := strings.Cut(trimmed, "=")
		name = strings.TrimRight(name, " \t")
		if !ok {
			return nil, fmt.Errorf("line %d: there is no equals sign: write it as NAME=value", number)
		}
		if !isVariableName(name) {
			return nil, fmt.Errorf("line %d: the name has other characters than letters, digits and underscores: write it as NAME=value", number)
		}
		_, text, _ = strings.Cut(text, "=")
		value, rest, err := envValue(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", number, name, err)
		}
		number += strings.Count(text[:len(text)-len(rest)], "\n")
		text = rest
		if i, again := index[name]; again {
			variables[i].value = value
			continue
		}
		index[name] = len(variables)
		variables = append(variables, variable{name, value})
	}
	return variables, nil
}

func isVariableName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter, digit := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_', c >= '0' && c <= '9'
		if !letter && !digit || i == 0 && digit {
			return false
		}
	}
	return s != ""
}

// envValue reads what is behind the equals sign, to the end of its last line.
func envValue(text string) (value, rest string, err error) {
	text = strings.TrimLeft(text, " \t")
	if text == "" || text[0] != '"' && text[0] != '\'' {
		value, rest, _ = strings.Cut(text, "\n")
		for i := range len(value) {
			if value[i] == '#' && (i == 0 || value[i-1] == ' ' || value[i-1] == '\t') {
				value = value[:i]
				break
			}
		}
		value = strings.TrimSpace(value)
		if strings.ContainsRune(value, 0) {
			return "", "", errors.New("the value has a zero byte in it")
		}
		return value, rest, nil
	}
	value, rest, ok := quoted(text)
	if !ok {
		return "", "", fmt.Errorf("the quote %c is not closed", text[0])
	}
	behind, rest, _ := strings.Cut(rest, "\n")
	if behind = strings.TrimSpace(behind); behind != "" && behind[0] != '#' {
		return "", "", errors.New("there is more behind the closing quote")
	}
	if strings.ContainsRune(value, 0) {
		return "", "", errors.New("the value has a zero byte in it")
	}
	return value, rest, nil
}

// quoted reads a value to its closing quote.
func quoted(text string) (value, rest string, ok bool) {
	quote := text[0]
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		c := text[i]
		switch {
		case c == quote:
			return b.String(), text[i+1:], true
		case c == '\\' && quote == '"' && i+1 < len(text):
			i++
			switch text[i] {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case '"', '\\', '$':
				b.WriteByte(text[i])
			default:
				b.WriteByte('\\')
				b.WriteByte(text[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}
