package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/dotenv"
)

// Command is a subcommand that asks the admin API of a running gateway.
type Command struct {
	Name, Usage, Short string
	// Long explains the command; how the admin API is found is added to it.
	Long string
	// Examples are command lines, without the name of the program.
	Examples []string
	// Flags are those of the command alone.
	Flags func(cmd *cobra.Command)
	Args  cobra.PositionalArgs
	// NoJSON: the command prints no answer of the admin API, and has no --json.
	NoJSON bool
	Run    func(cmd *cobra.Command, args []string) error
}

// about is the part of the help that is about the flags of every command.
const about = `

The admin API is found at --address, where the configuration that --config names
has it, at TENTAGATE_ADMIN, also in the environment file that the gateway has (.env
in this directory, or that of --env-file), where the Caddyfile in this directory has
it, at the socket of the gateway that this user runs with "tentagate gateway", or at
localhost:2019. An address may be a Unix socket: unix//run/caddy.sock.`

// documentation is where the help of each of our commands leads, in place of that of
// Caddy's commands.
const documentation = "\nDocumentation: https://github.com/pythopus/tentagate/blob/main/docs/commands.md\n"

// Describe completes the help of a command: examples, which are command lines without
// the name of the program, and where its documentation is.
func Describe(cmd *cobra.Command, examples ...string) {
	cmd.Example = Example(examples...)
	cmd.SetHelpTemplate(cmd.HelpTemplate() + documentation)
}

// Register adds the command to Caddy's. It is called from init.
func Register(c Command) {
	usage := c.Usage
	if !c.NoJSON {
		usage += " [--json]"
	}
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  c.Name,
		Usage: strings.TrimSpace(usage + " [--address <interface>] [--config <path> [--adapter <name>]] [--env-file <path>]"),
		Short: c.Short,
		Long:  strings.TrimSpace(c.Long) + about,
		CobraFunc: func(cmd *cobra.Command) {
			Describe(cmd, c.Examples...)
			cmd.Args = c.Args
			cmd.RunE = c.Run
			if c.Flags != nil {
				c.Flags(cmd)
			}
			if !c.NoJSON {
				cmd.Flags().Bool("json", false, "Print the answer of the admin API as it is")
			}
			cmd.Flags().String("address", "", "Address of the admin API, such as localhost:2019 or unix//run/caddy.sock")
			cmd.Flags().StringP("config", "c", "", "Configuration file to read the address from")
			cmd.Flags().StringP("adapter", "a", "", "Name of the config adapter for that file")
			dotenv.AddFlag(cmd.Flags(), new(string))
		},
	})
}

// Reach says which gateways know of a change: its argument is `shared` of an answer.
func Reach[T ~string](shared T) string {
	switch shared {
	case "yes":
		return " on all gateways that share this Redis"
	case "pending":
		return " on this gateway; the others follow when Redis is available"
	case "no":
		return " on this gateway; without Redis there are no others to tell"
	}
	return ""
}

// Example returns command lines for the help of a command.
func Example(lines ...string) string {
	return "  tentagate " + strings.Join(lines, "\n  tentagate ")
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// Do sends a request to the admin API, with body as JSON unless it is nil, and
// prints the answer: as it is with --json, and otherwise by show, as a table whose
// columns end with tabs. An empty answer leaves the value zero.
func Do[T any](cmd *cobra.Command, method, uri string, body any, show func(w io.Writer, answer T) error) error {
	stream, err := send(cmd.Flags(), method, uri, body)
	if err != nil {
		return err
	}
	defer stream.Close()
	text, err := io.ReadAll(io.LimitReader(stream, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the gateway's answer: %w", err)
	}
	if raw, _ := cmd.Flags().GetBool("json"); raw {
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	var answer T
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			return fmt.Errorf("reading the gateway's answer: %w", err)
		}
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	if err := show(w, answer); err != nil {
		return err
	}
	return w.Flush()
}
