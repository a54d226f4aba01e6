package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/registries"
)

// registryMade is the API's answer to what may have made a webhook's token.
type registryMade struct {
	Registry registries.View `json:"registry"`
	Token    string          `json:"webhook_token,omitempty"`
	Path     string          `json:"webhook_path,omitempty"`
}

// specFlags gives a command the flags of a registry's configuration.
func specFlags(c *cobra.Command, s *registries.Spec) {
	f := c.Flags()
	f.StringVar(&s.Host, "host", s.Host, "host of the registry, with a port where it has one; a name without a dot needs one")
	f.StringVar(&s.Kind, "kind", s.Kind, "oci, or ecr for Amazon ECR by its own API (default: by the host)")
	f.BoolVar(&s.PlainHTTP, "plain-http", s.PlainHTTP, "permit requests without TLS")
	f.StringArrayVar(&s.Repositories, "repository", s.Repositories, "pattern of repositories; may be repeated, the last that matches decides; !PATTERN excludes (default: all)")
	f.StringArrayVar(&s.Tags, "tag", s.Tags, "pattern of tags, likewise")
	f.StringArrayVar(&s.Named, "named", s.Named, "a repository that is watched though the registry does not list it; may be repeated")
	f.IntVar(&s.Keep, "keep", s.Keep, "only so many of the newest images of each repository; 0 is all")
	f.StringVar(&s.MaxAge, "max-age", s.MaxAge, "only images that are not older, as in 90d")
	f.StringSliceVar(&s.Platforms, "platform", s.Platforms, "platforms that are scanned, as in linux/arm64 (default: those of the fleet, else linux/amd64)")
	f.StringVar(&s.Every, "every", s.Every, "how often the registry is asked for news (default 15m)")
	f.Float64Var(&s.Rate, "rate", s.Rate, "requests a second at most (default 10)")
	f.StringVar(&s.Queue, "queue", s.Queue, "URL of an SQS queue with the events of Amazon ECR")
}

func (g *globals) registryAdd(o *askOptions) *cobra.Command {
	var s registries.Spec
	var webhook bool
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Have a registry watched",
		Long: `Have a registry watched: it is looked at at once, and then every so often. With
--webhook a token is made and shown once, by which the registry tells of changes.

In patterns * is any text without a slash, ** any text; a leading ! excludes, and
the last pattern that matches decides.

A host without a dot needs its port, as in registry:443, unless it is localhost:
docker and all other tools take registry/app for an image of Docker Hub.
`,
		Example: `  castellan registries add shop --host registry.example --repository 'shop/**' --repository '!shop/*-test' --keep 10`,
		Args:    cobra.ExactArgs(1),
	}
	specFlags(c, &s)
	c.Flags().BoolVar(&webhook, "webhook", false, "make a webhook, by which the registry tells of changes")
	c.RunE = func(c *cobra.Command, args []string) error {
		s.Name = args[0]
		if _, err := s.Registry(); err != nil {
			return usageError{err}
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		body := struct {
			registries.Spec
			Webhook bool `json:"webhook"`
		}{s, webhook}
		var made registryMade
		if err := api.do(c.Context(), http.MethodPost, "/registries", body, &made); err != nil {
			return err
		}
		fmt.Fprintf(g.out, "Registry %s is watched from now on; castellan registries images %[1]s shows what it holds.\n", s.Name)
		return g.showWebhook(api, made)
	}
	return c
}

// showWebhook tells once how a registry may tell of changes.
func (g *globals) showWebhook(api *client, made registryMade) error {
	if made.Token == "" {
		return nil
	}
	base := api.base
	if api.socket != "" {
		base = "https://ADDRESS-OF-THIS-SERVER"
	}
	_, err := fmt.Fprintf(g.out, `
Its webhook, shown this once:
  address  %[1]s%[2]s
  header   Authorization: Bearer %[3]s
or, for a registry that can send no header:
  address  %[1]s%[2]s/%[3]s
`, base, made.Path, made.Token)
	return err
}

func (g *globals) registryEdit(o *askOptions) *cobra.Command {
	var s registries.Spec
	var webhook, noWebhook bool
	c := &cobra.Command{
		Use:   "edit NAME",
		Short: "Change a registry",
		Long: `Change a registry: what no flag names stays as it is. Patterns that are given
replace all that were; --repository '' removes them.
`,
		Example: `  castellan registries edit shop --keep 20 --max-age 180d`,
		Args:    cobra.ExactArgs(1),
	}
	specFlags(c, &s)
	c.Flags().BoolVar(&webhook, "webhook", false, "make a new token for the webhook; a former one is good no more")
	c.Flags().BoolVar(&noWebhook, "no-webhook", false, "end the webhook")
	c.MarkFlagsMutuallyExclusive("webhook", "no-webhook")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		spec, err := findRegistry(c.Context(), api, args[0])
		if err != nil {
			return err
		}
		changeSpec(c, &spec, s)
		if _, err := spec.Registry(); err != nil {
			return usageError{err}
		}
		made, err := putRegistry(c.Context(), api, spec, map[bool]string{webhook: "new", noWebhook: "none"}[true])
		if err != nil {
			return err
		}
		fmt.Fprintf(g.out, "Registry %s is changed, and looked at anew.\n", spec.Name)
		return g.showWebhook(api, made)
	}
	return c
}

// changeSpec takes over what flags name.
func changeSpec(c *cobra.Command, to *registries.Spec, from registries.Spec) {
	set := c.Flags().Changed
	for name, take := range map[string]func(){
		"host": func() { to.Host = from.Host }, "kind": func() { to.Kind = from.Kind }, "plain-http": func() { to.PlainHTTP = from.PlainHTTP },
		"repository": func() { to.Repositories = from.Repositories }, "tag": func() { to.Tags = from.Tags },
		"named": func() { to.Named = from.Named }, "keep": func() { to.Keep = from.Keep }, "max-age": func() { to.MaxAge = from.MaxAge },
		"platform": func() { to.Platforms = from.Platforms }, "every": func() { to.Every = from.Every },
		"rate": func() { to.Rate = from.Rate }, "queue": func() { to.Queue = from.Queue },
	} {
		if set(name) {
			take()
		}
	}
}

func putRegistry(ctx context.Context, api *client, s registries.Spec, webhook string) (registryMade, error) {
	body := struct {
		registries.Spec
		Webhook string `json:"webhook,omitempty"`
	}{s, webhook}
	var made registryMade
	err := api.do(ctx, http.MethodPut, registryPath(s.Name), body, &made)
	return made, err
}

// maxRegistriesFile bounds a file of registries.
const maxRegistriesFile = 1 << 20

func (g *globals) registryApply(o *askOptions) *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make the registries in a file all that are watched",
		Long: `Make the registries in a file all that are watched: what is not in it is
removed. The file is YAML or JSON; - is the standard input. --dry-run shows what
would change. Webhooks stay as they are; castellan registries edit makes one.
`,
		Example: `  castellan registries -o yaml > registries.yaml
  castellan registries apply registries.yaml --dry-run`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	c.RunE = func(c *cobra.Command, args []string) error {
		want, err := g.readRegistries(args[0])
		if err != nil {
			return err
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var have registryList
		if err := api.get(c.Context(), "/registries", nil, &have); err != nil {
			return err
		}
		return g.applyRegistries(c.Context(), api, have.Registries, want, dryRun)
	}
	return c
}

// readRegistries reads a file of registries and checks each.
func (g *globals) readRegistries(path string) ([]registries.Spec, error) {
	in := io.NopCloser(g.in)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxRegistriesFile+1))
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxRegistriesFile {
		return nil, fault.New(fault.Invalid, "%s has more than %d bytes", path, maxRegistriesFile)
	}
	specs, err := parseRegistries(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return specs, nil
}

// parseRegistries reads the configuration of registries, in which every name is
// unique. What castellan registries -o yaml writes is taken as it is: what it has
// beside the configuration is left aside.
func parseRegistries(b []byte) ([]registries.Spec, error) {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, format, args...).With("write a list named registries, as docs/registries.md shows")
	}
	j, err := yaml.YAMLToJSONStrict(b)
	if err != nil {
		return nil, bad("read it: %w", err)
	}
	var file struct {
		Registries []json.RawMessage `json:"registries"`
	}
	d := json.NewDecoder(strings.NewReader(string(j)))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, bad("read it: %w", err)
	}
	if file.Registries == nil {
		return nil, bad("it has no list of registries")
	}
	var specs []registries.Spec
	for i, raw := range file.Registries {
		var v registries.View // which has all that an export has
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			return nil, bad("registry %d: %w", i+1, err)
		}
		r, err := v.Registry()
		if err != nil {
			return nil, fmt.Errorf("registry %d (%.63s): %w", i+1, v.Name, err)
		}
		if slices.ContainsFunc(specs, func(s registries.Spec) bool { return s.Name == r.Name }) {
			return nil, bad("registry %d: there are two called %q", i+1, r.Name)
		}
		specs = append(specs, registries.SpecOf(r))
	}
	return specs, nil
}

// applyRegistries brings what is watched to what is wanted, and says what it does.
func (g *globals) applyRegistries(ctx context.Context, api *client, have []registries.View, want []registries.Spec, dryRun bool) error {
	same := 0
	for _, w := range want {
		i := slices.IndexFunc(have, func(v registries.View) bool { return v.Name == w.Name })
		switch {
		case i < 0:
			fmt.Fprintln(g.out, g.paint("+ "+w.Name+"  "+w.Host, good))
			if !dryRun {
				if err := api.do(ctx, http.MethodPost, "/registries", w, nil); err != nil {
					return err
				}
			}
		default:
			changes := differences(have[i].Spec, w)
			if len(changes) == 0 {
				same++
				continue
			}
			fmt.Fprintln(g.out, g.paint("~ "+w.Name, warn))
			for _, c := range changes {
				fmt.Fprintln(g.out, "    "+printable(c))
			}
			if !dryRun {
				if _, err := putRegistry(ctx, api, w, ""); err != nil {
					return err
				}
			}
		}
	}
	for _, v := range have {
		if slices.ContainsFunc(want, func(w registries.Spec) bool { return w.Name == v.Name }) {
			continue
		}
		fmt.Fprintln(g.out, g.paint("- "+printable(v.Name)+"  "+printable(v.Host), bad))
		if !dryRun {
			if err := api.do(ctx, http.MethodDelete, registryPath(v.Name), nil, nil); err != nil {
				return err
			}
		}
	}
	if same == len(want) && same == len(have) {
		fmt.Fprintln(g.out, "Nothing changes.")
	}
	if dryRun {
		fmt.Fprintln(g.err, "nothing was changed (--dry-run)")
	}
	return nil
}

// differences says field by field what a change is.
func differences(from, to registries.Spec) []string {
	var all []string
	a, b := reflect.ValueOf(from), reflect.ValueOf(to)
	for i := range a.NumField() {
		name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("json"), ",")
		x, y := fieldWords(a.Field(i)), fieldWords(b.Field(i))
		if x != y {
			all = append(all, fmt.Sprintf("%s: %s → %s", name, orDefault(x, "none"), orDefault(y, "none")))
		}
	}
	return all
}

// fieldWords is a field's value as text; "" for none.
func fieldWords(v reflect.Value) string {
	if words, ok := v.Interface().([]string); ok {
		return strings.Join(words, ", ")
	}
	if v.IsZero() {
		return ""
	}
	return fmt.Sprint(v.Interface())
}
