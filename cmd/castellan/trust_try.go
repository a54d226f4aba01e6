package main

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// trustTrial is the API's answer to a policy that is tried.
type trustTrial struct {
	Problems []struct {
		Line   int    `json:"line,omitempty"`
		Column int    `json:"column,omitempty"`
		Text   string `json:"text"`
		Remedy string `json:"remedy,omitempty"`
	} `json:"problems"`
	Before  map[store.TrustState]int `json:"before,omitempty"`
	After   map[store.TrustState]int `json:"after,omitempty"`
	Changes []verify.Change          `json:"changes"`
	More    int                      `json:"more,omitempty"`
	Untried int                      `json:"untried,omitempty"`
	Image   *verify.Change           `json:"image,omitempty"`
	Verdict *trust.Verdict           `json:"verdict,omitempty"`
}

func (g *globals) trustPolicyTry(o *askOptions) *cobra.Command {
	var image string
	c := &cobra.Command{
		Use:   "try FILE",
		Short: "Say what a file would say, as the fleet's trust policy, of what runs now",
		Long: `Say what a file ("-" is the standard input) would say, as the fleet's trust policy,
of the images that run now. The server holds it against the signatures that it
knows of: no registry is asked, and nothing changes. Where that is not enough, as
when trusted roots are others, the state is anew: the image would have to be
verified anew before anybody knows.
` + exitHelp,
		Example: `  castellan trust policy try castellan-trust.yaml
  castellan trust policy try castellan-trust.yaml --image ghcr.io/acme/shop@sha256:…`,
		Args: cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.Flags().StringVar(&image, "image", "", "explain it for this image alone, as repository@digest")
	c.RunE = func(c *cobra.Command, args []string) error {
		in := map[string]any{}
		if image != "" {
			name, digest, ok := strings.Cut(image, "@")
			repository, err := trust.Repository(name)
			if !ok || err != nil || repository == "" {
				return usagef("--image %s: want repository@digest, as castellan trust images lists it", image)
			}
			in["repository"], in["digest"] = repository, digest
		}
		b, err := g.readSmall(args[0], store.MaxTrustPolicy)
		if err != nil {
			return fmt.Errorf("read trust policy: %w", err)
		}
		in["text"] = string(b)
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var t trustTrial
		if err := api.do(c.Context(), http.MethodPost, "/trust/policy/try", in, &t); err != nil {
			return err
		}
		if err := g.print(*f, t, func() error { return g.trustTrial(&t) }); err != nil {
			return err
		}
		if len(t.Problems) > 0 && *f != formTable {
			return errSaid
		}
		return t.refused(args[0])
	}
	return c
}

// refused is the error of a file that is no policy.
func (t *trustTrial) refused(file string) error {
	if len(t.Problems) == 0 {
		return nil
	}
	var b strings.Builder
	for i, p := range t.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d:%d: %s", file, p.Line, p.Column, p.Text)
	}
	return fault.New(fault.Invalid, "%s", b.String()).With(t.Problems[0].Remedy)
}

func (g *globals) trustTrial(t *trustTrial) error {
	switch {
	case len(t.Problems) > 0:
		return nil
	case t.Image != nil:
		return g.triedImage(t)
	}
	var rows [][]cell
	for _, s := range slices.Concat(store.TrustStates(), []store.TrustState{verify.TrustAnew}) {
		if t.Before[s]+t.After[s] > 0 {
			rows = append(rows, []cell{{string(s), plain}, {strconv.Itoa(t.Before[s]), plain}, {strconv.Itoa(t.After[s]), plain}})
		}
	}
	if len(rows) == 0 {
		fmt.Fprintln(g.err, "it can be used; no image runs that it could be held against")
		return nil
	}
	if err := g.table([]string{"STATE", "NOW", "THEN"}, rows); err != nil {
		return err
	}
	for _, x := range t.Changes {
		fmt.Fprintln(g.out)
		g.change(&x)
	}
	if t.More > 0 {
		fmt.Fprintf(g.out, "\n%d more would change\n", t.More)
	}
	if t.Untried > 0 {
		fmt.Fprintf(g.err, "%d images were not tried: that takes too long; simpler conditions take less time\n", t.Untried)
	}
	return nil
}

// change tells what becomes of one image.
func (g *globals) change(x *verify.Change) {
	fmt.Fprintf(g.out, "%s@%s\n    %s, then %s: %s\n", printable(x.Repository), printable(x.Digest), x.Before, x.After, printable(x.Reason))
	for i, d := range x.Doubts {
		if i > 0 { // the first is the reason
			fmt.Fprintf(g.out, "    also: %s\n", printable(d))
		}
	}
	if x.Remedy != "" {
		fmt.Fprintf(g.out, "    remedy: %s\n", printable(x.Remedy))
	}
	if len(x.Groups) > 0 {
		groups := make([]string, 0, len(x.Groups))
		for _, n := range x.Groups {
			groups = append(groups, printable(string(n)))
		}
		fmt.Fprintf(g.out, "    run by %s\n", strings.Join(groups, ", "))
	}
}

func (g *globals) triedImage(t *trustTrial) error {
	g.change(t.Image)
	if t.Verdict == nil {
		return nil
	}
	fmt.Fprintln(g.out)
	return trust.WriteSteps(g.out, t.Verdict)
}
