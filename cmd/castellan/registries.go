package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

// registryList is the API's answer to a listing.
type registryList struct {
	Registries []registries.View `json:"registries"`
}

func newRegistries(g *globals) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:     "registries",
		Aliases: []string{"registry"},
		Short:   "Watch registries: what they hold is scanned, and what is new as it comes",
		Long: `List the registries that are watched. What they hold is scanned by the server
itself, with the credentials that its docker configuration and AWS role have.
` + exitHelp,
		Example: `  castellan registries add shop --host 123456789012.dkr.ecr.eu-central-1.amazonaws.com --repository 'shop/*' --keep 10
  castellan registries add harbor --host harbor.example --tag 'v*' --webhook
  castellan registries images shop --severity critical
  castellan registries apply registries.yaml --dry-run`,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	for _, sub := range []*cobra.Command{
		g.registryList(&o), g.registryAdd(&o), g.registryEdit(&o), g.registryRemove(&o), g.registryCheck(&o),
		g.registryImages(&o), g.registryScan(&o), g.registryRepositories(&o), g.registryApply(&o),
	} {
		if sub.Long == "" {
			sub.Long = sub.Short + ".\n"
		}
		sub.Long += exitHelp
		c.AddCommand(sub)
	}
	persistent(c, &o)
	c.RunE = func(c *cobra.Command, _ []string) error { return g.listRegistries(c.Context(), o, *f) }
	return c
}

func (g *globals) registryList(o *askOptions) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the registries that are watched", Args: cobra.NoArgs}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error { return g.listRegistries(c.Context(), *o, *f) }
	return c
}

func (g *globals) listRegistries(ctx context.Context, o askOptions, f form) error {
	api, err := g.dial(o)
	if err != nil {
		return err
	}
	var all registryList
	if err := api.get(ctx, "/registries", nil, &all); err != nil {
		return err
	}
	return g.print(f, all, func() error {
		if len(all.Registries) == 0 {
			fmt.Fprintln(g.err, "no registry is watched; castellan registries add NAME --host HOST has one watched")
			return nil
		}
		now := time.Now()
		rows := make([][]cell, 0, len(all.Registries))
		for _, v := range all.Registries {
			rows = append(rows, registryRow(v, now))
		}
		return g.table([]string{"NAME", "HOST", "IMAGES", "WAITING", "FAILED", "CRITICAL", "HIGH", "LOOKED AT", "STATE"}, rows)
	})
}

func registryRow(v registries.View, now time.Time) []cell {
	t := v.Totals
	n := func(count int, tone tone) cell {
		if count == 0 {
			return cell{"0", faint}
		}
		return cell{strconv.Itoa(count), tone}
	}
	return []cell{
		text(v.Name), text(v.Host), {strconv.Itoa(t.Images()), plain},
		n(t.States[store.RegistryWaiting]+t.States[store.RegistryRunning], plain), n(t.States[store.RegistryFailed], bad),
		n(t.Critical, bad), n(t.High, bad), {ago(v.Poll.Ended, now), plain}, registryState(v),
	}
}

// registryState says how a registry is.
func registryState(v registries.View) cell {
	switch {
	case v.Poll.Error != "":
		return cell{printable(v.Poll.Error), bad}
	case v.Totals.Failing > 0:
		return cell{fmt.Sprintf("%d of %d repositories can't be listed; castellan registries repositories %s", v.Totals.Failing, v.Totals.Repositories, v.Name), warn}
	case v.Paused != nil:
		return cell{printable(v.Paused.Error), warn}
	case v.Looking:
		return cell{"being looked at", plain}
	case v.Poll.Ended.IsZero():
		return cell{"waits for its first look", plain}
	}
	return cell{"well", good}
}

func (g *globals) registryRemove(o *askOptions) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Aliases: []string{"rm"},
		Short:   "Watch a registry no longer, and forget what it holds",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.dial(*o)
			if err != nil {
				return err
			}
			if err := api.do(c.Context(), http.MethodDelete, registryPath(args[0]), nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "Registry %s is not watched any more.\n", printable(args[0]))
			return err
		},
	}
}

// registryPath is the API's path of a registry, or of a part of it.
func registryPath(name string, parts ...string) string {
	return "/registries/" + url.PathEscape(name) + strings.Join(append([]string{""}, parts...), "/")
}

func (g *globals) registryCheck(o *askOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "check NAME",
		Short: "Look at a registry now, also at what failed before",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.dial(*o)
			if err != nil {
				return err
			}
			if err := api.do(c.Context(), http.MethodPost, registryPath(args[0], "check"), nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "Registry %s is looked at now; castellan registries shows how that goes.\n", printable(args[0]))
			return err
		},
	}
}

// registryImagePage is the API's answer to a listing of images.
type registryImagePage struct {
	Images []store.RegistryImage `json:"images"`
	Next   int64                 `json:"next,omitempty"`
}

func (g *globals) registryImages(o *askOptions) *cobra.Command {
	var repository, state, severity, text string
	var limit int
	c := &cobra.Command{
		Use:   "images NAME",
		Short: "Show the images that a registry holds, and how far their scans are",
		Args:  cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.Flags().StringVar(&repository, "repository", "", "only this repository")
	c.Flags().StringVar(&state, "state", "", "state: "+list(store.RegistryStates()))
	c.Flags().StringVar(&severity, "severity", "", "only images with a vulnerability at least that grave: critical, high, medium, low")
	c.Flags().StringVar(&text, "text", "", "part of a repository, tag or digest")
	c.Flags().IntVarP(&limit, "limit", "n", 200, "how many, at most 1000")
	c.RunE = func(c *cobra.Command, args []string) error {
		q := url.Values{"limit": {strconv.Itoa(limit)}}
		for name, v := range map[string]string{"repository": repository, "state": state, "severity": severity, "text": text} {
			if v != "" {
				q.Set(name, v)
			}
		}
		if _, err := query.RegistryImages(q); err != nil {
			return usageError{err}
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var page registryImagePage
		if err := api.get(c.Context(), registryPath(args[0], "images"), q, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.registryImageTable(page) })
	}
	return c
}

func (g *globals) registryImageTable(page registryImagePage) error {
	if len(page.Images) == 0 {
		fmt.Fprintln(g.err, "no image matches; castellan registries says whether the registry was looked at")
		return nil
	}
	now := time.Now()
	rows := make([][]cell, 0, len(page.Images))
	for _, m := range page.Images {
		rows = append(rows, registryImageRow(m, now))
	}
	if err := g.table([]string{"REPOSITORY", "TAGS", "DIGEST", "AGE", "CRITICAL", "HIGH", "STATE"}, rows); err != nil {
		return err
	}
	if page.Next != 0 {
		fmt.Fprintln(g.err, "there are more; raise --limit, or narrow with --repository, --state, --severity or --text")
	}
	return nil
}

func registryImageRow(m store.RegistryImage, now time.Time) []cell {
	critical, high := cell{"?", faint}, cell{"?", faint}
	for i, p := range m.Platforms {
		if p.Matched.IsZero() {
			continue
		}
		if i == 0 || p.Counts.Critical > 0 || p.Counts.High > 0 { // of several, the worst decides, which all of them list
			critical, high = worse(critical, p.Counts.Critical), worse(high, p.Counts.High)
		}
	}
	at := m.Pushed
	if at.IsZero() {
		at = m.First
	}
	return []cell{
		text(m.Repository), text(strings.Join(m.Tags, " ")), text(shortImageID(m.Digest)), {ago(at, now), plain}, critical, high, registryImageState(m),
	}
}

// worse is a count, unless another platform has more.
func worse(than cell, count int) cell {
	if n, err := strconv.Atoi(than.text); err == nil && n >= count {
		return than
	}
	if count == 0 {
		return cell{"0", faint}
	}
	return cell{strconv.Itoa(count), bad}
}

func registryImageState(m store.RegistryImage) cell {
	why := ""
	if m.Error != "" {
		why = ": " + printable(m.Error)
	}
	switch m.State {
	case store.RegistryDone:
		return cell{"done", good}
	case store.RegistryFailed:
		return cell{"failed" + why, bad}
	case store.RegistrySkipped:
		return cell{"no image" + why, faint}
	case store.RegistryLeft:
		return cell{"left out by the registry's rules", faint}
	case store.RegistryGone:
		return cell{"gone", faint}
	case store.RegistryWaiting:
		if m.Tries > 0 {
			return cell{fmt.Sprintf("waiting (%d failed)", m.Tries) + why, warn}
		}
		if why != "" { // for its registry
			return cell{"waiting" + why, warn}
		}
	}
	return cell{string(m.State), plain}
}

func (g *globals) registryRepositories(o *askOptions) *cobra.Command {
	var text string
	c := &cobra.Command{
		Use:   "repositories NAME",
		Short: "Show the repositories of a registry, and what keeps them from being listed",
		Args:  cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.Flags().StringVar(&text, "text", "", "part of the name")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var page struct {
			Repositories []store.RegistryRepository `json:"repositories"`
			Next         int                        `json:"next,omitempty"`
		}
		q := url.Values{"limit": {strconv.Itoa(store.MaxPage)}}
		if text != "" {
			q.Set("text", text)
		}
		if err := api.get(c.Context(), registryPath(args[0], "repositories"), q, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error { return g.repositoryTable(page.Repositories, page.Next > 0) })
	}
	return c
}

func (g *globals) repositoryTable(all []store.RegistryRepository, more bool) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "no repository matches; castellan registries says whether the registry was looked at")
		return nil
	}
	now := time.Now()
	rows := make([][]cell, 0, len(all))
	for _, r := range all {
		state := cell{"well", good}
		if r.Error != "" {
			state = cell{printable(strings.TrimSuffix(r.Error+"; "+r.Remedy, "; ")), bad}
		}
		rows = append(rows, []cell{text(r.Name), {strconv.Itoa(r.Images), plain}, {strconv.Itoa(r.Left), faint}, {ago(r.Listed, now), plain}, state})
	}
	if err := g.table([]string{"REPOSITORY", "IMAGES", "LEFT OUT", "LISTED", "STATE"}, rows); err != nil {
		return err
	}
	if more {
		fmt.Fprintln(g.err, "there are more; narrow with --text")
	}
	return nil
}

// findRegistry returns one registry's configuration.
func findRegistry(ctx context.Context, api *client, name string) (registries.Spec, error) {
	var all registryList
	if err := api.get(ctx, "/registries", nil, &all); err != nil {
		return registries.Spec{}, err
	}
	i := slices.IndexFunc(all.Registries, func(v registries.View) bool { return v.Name == name })
	if i < 0 {
		return registries.Spec{}, fault.New(fault.NotFound, "no registry is called %q", name).With("list them: castellan registries")
	}
	return all.Registries[i].Spec, nil
}
