package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

func (g *globals) registryScan(o *askOptions) *cobra.Command {
	var failed bool
	c := &cobra.Command{
		Use:   "scan NAME [IMAGE…]",
		Short: "Have images of a registry scanned anew",
		Long: `Have images of a registry scanned anew, also such that were given up: those that
are named, as REPOSITORY, REPOSITORY:TAG, REPOSITORY@DIGEST or the beginning of a
digest, or with --failed all of which the scan failed.
`,
		Example: `  castellan registries scan shop shop/web:1
  castellan registries scan shop --failed`,
		Args: cobra.MinimumNArgs(1),
	}
	c.Flags().BoolVar(&failed, "failed", false, "all of which the scan failed")
	c.RunE = func(c *cobra.Command, args []string) error {
		if failed == (len(args) > 1) {
			return usageError{fault.New(fault.Invalid, "name the images, or say --failed")}
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var all []store.RegistryImage
		if failed {
			all, err = registryEntries(c.Context(), api, args[0], url.Values{"state": {string(store.RegistryFailed)}})
		}
		for _, name := range args[1:] {
			found, ferr := namedEntries(c.Context(), api, args[0], name)
			if ferr != nil {
				return ferr
			}
			all = append(all, found...)
		}
		if err != nil {
			return err
		}
		for _, e := range all {
			if err := api.do(c.Context(), http.MethodPost, registryPath(args[0], "images", strconv.FormatInt(e.ID, 10), "scan"), nil, nil); err != nil {
				return err
			}
		}
		what := "1 image of registry %s waits"
		if len(all) != 1 {
			what = strconv.Itoa(len(all)) + " images of registry %s wait"
		}
		_, err = fmt.Fprintf(g.out, what+" for a new scan; castellan registries images %[1]s shows how that goes.\n", printable(args[0]))
		return err
	}
	return c
}

// namedEntries returns the images of a registry that name means, of those that the
// registry holds and its rules want.
func namedEntries(ctx context.Context, api *client, registry, name string) ([]store.RegistryImage, error) {
	q := url.Values{}
	means := func(store.RegistryImage) bool { return true }
	repository, digest, pinned := strings.Cut(name, "@")
	switch at := strings.LastIndexByte(name, ':'); {
	case pinned:
		q.Set("repository", repository)
		means = func(e store.RegistryImage) bool { return e.Digest == digest }
	case strings.HasPrefix(name, "sha256:"):
		q.Set("text", name)
		means = func(e store.RegistryImage) bool { return strings.HasPrefix(e.Digest, name) }
	case at > 0:
		q.Set("repository", name[:at])
		means = func(e store.RegistryImage) bool { return slices.Contains(e.Tags, name[at+1:]) }
	default:
		q.Set("repository", name)
	}
	all, err := registryEntries(ctx, api, registry, q)
	all = slices.DeleteFunc(all, func(e store.RegistryImage) bool {
		return !means(e) || e.State == store.RegistryGone || e.State == store.RegistryLeft
	})
	if err == nil && len(all) == 0 {
		err = fault.New(fault.NotFound, "registry %s holds no image %q that its rules want", printable(registry), name).
			With("list them: castellan registries images " + printable(registry))
	}
	return all, err
}

// registryEntries returns all images of a registry that a query means.
func registryEntries(ctx context.Context, api *client, registry string, q url.Values) (all []store.RegistryImage, err error) {
	q.Set("limit", strconv.Itoa(store.MaxPage))
	for {
		var page registryImagePage
		if err := api.get(ctx, registryPath(registry, "images"), q, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Images...)
		if page.Next == 0 {
			return all, nil
		}
		q.Set("after", strconv.FormatInt(page.Next, 10))
	}
}
