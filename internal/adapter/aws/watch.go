package aws

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/pace"
)

const (
	// DefaultRate is how many requests a second a region's ECR is asked at most,
	// where nothing else is configured. All of an account share what AWS permits,
	// and its services come first; a request tells of up to a thousand images.
	DefaultRate = 5
	// pageSize is how many repositories or images one answer has: the most there
	// may be.
	pageSize = 1000
	// maxPages bounds the pages of one list. ECR permits 100,000 images a
	// repository at most, and some thousands of repositories.
	maxPages = 1000
	// throttledFor is how long nothing is asked after AWS said that it was too
	// much, although the SDK had already waited and tried again.
	throttledFor = 30 * time.Second
	// askWithin is how long a request may take, with all the SDK's own attempts.
	askWithin = 30 * time.Second
)

// client is one region's ECR that is watched.
type client struct {
	pace pace.Pace
	api  *ecr.Client
}

// Repositories yields the names of all repositories of a registry, those of pull
// through caches too. After an error nothing follows. It needs the permission
// ecr:DescribeRepositories, and is of kind Unsupported for the public gallery.
func (e *ECR) Repositories(ctx context.Context, w asset.Registry) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		what := "list repositories of " + w.Host
		c, account, err := e.client(ctx, w)
		if err != nil {
			yield("", fmt.Errorf("%s: %w", what, err))
			return
		}
		pages := ecr.NewDescribeRepositoriesPaginator(c.api, &ecr.DescribeRepositoriesInput{
			RegistryId: sdk.String(account), MaxResults: sdk.Int32(pageSize),
		}, func(o *ecr.DescribeRepositoriesPaginatorOptions) { o.StopOnDuplicateToken = true })
		for range maxPages {
			if !pages.HasMorePages() {
				return
			}
			out, err := turn(ctx, c, what, "ecr:DescribeRepositories", pages.NextPage)
			if err != nil {
				yield("", err)
				return
			}
			for _, r := range out.Repositories {
				name := sdk.ToString(r.RepositoryName)
				if !asset.IsRepository(name) {
					e.log.Warn("name left out that no repository can have", "registry", w.Host, "name", name)
					continue
				}
				if !yield(name, nil) {
					return
				}
			}
		}
		yield("", tooMany(what))
	}
}

// Images yields the images of a repository that have a tag which want says yes
// to, with when they were pushed and their size. Signatures, charts and other
// artifacts are left out, and images that were archived, which cannot be pulled.
// After an error nothing follows; it is of kind NotFound when there is no such
// repository. It needs the permission ecr:DescribeImages.
func (e *ECR) Images(ctx context.Context, w asset.Registry, repository string, want func(tag string) bool) iter.Seq2[asset.RegistryImage, error] {
	return func(yield func(asset.RegistryImage, error) bool) {
		what := "list images of " + w.Host + "/" + repository
		c, account, err := e.client(ctx, w)
		if err != nil {
			yield(asset.RegistryImage{}, fmt.Errorf("%s: %w", what, err))
			return
		}
		pages := ecr.NewDescribeImagesPaginator(c.api, &ecr.DescribeImagesInput{
			RegistryId: sdk.String(account), RepositoryName: sdk.String(repository), MaxResults: sdk.Int32(pageSize),
			Filter: &types.DescribeImagesFilter{TagStatus: types.TagStatusTagged},
		}, func(o *ecr.DescribeImagesPaginatorOptions) { o.StopOnDuplicateToken = true })
		for range maxPages {
			if !pages.HasMorePages() {
				return
			}
			out, err := turn(ctx, c, what, "ecr:DescribeImages", pages.NextPage)
			if err != nil {
				yield(asset.RegistryImage{}, err)
				return
			}
			for _, d := range out.ImageDetails {
				image, ok := imageOf(repository, d, want)
				if ok && !yield(image, nil) {
					return
				}
			}
		}
		yield(asset.RegistryImage{}, tooMany(what))
	}
}

func tooMany(what string) error {
	return fault.New(fault.Invalid, "%s: more than %d pages", what, maxPages).
		With("delete what is not needed: a lifecycle policy does so by itself")
}

// client returns the way to a registry that is watched, and its account.
func (e *ECR) client(ctx context.Context, w asset.Registry) (*client, string, error) {
	r, ok := parseHost(w.Host)
	if !ok {
		return nil, "", fault.New(fault.Invalid, "%q is no registry of Amazon ECR", w.Host).
			With("write its host as in 123456789012.dkr.ecr.eu-west-1.amazonaws.com, or say that it is of kind oci")
	}
	if r.public {
		return nil, "", fault.New(fault.Unsupported, "the API of the public gallery lists only one's own repositories").
			With("watch " + w.Host + " as a registry of kind oci, and name the repositories")
	}
	c, err := e.open(ctx, r)
	if err != nil {
		return nil, "", err
	}
	rate := w.Rate
	if rate <= 0 {
		rate = DefaultRate
	}
	c.pace.Limit(rate)
	return c, w.Host[:accountDigits], nil
}

// open returns the client of a region.
func (e *ECR) open(ctx context.Context, r registry) (*client, error) {
	e.mu.Lock()
	c := e.clients[r]
	e.mu.Unlock()
	if c != nil {
		return c, nil
	}
	config, err := load(ctx, r, e.log)
	if err != nil {
		return nil, err
	}
	if err := identified(ctx, config); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if c = e.clients[r]; c == nil { // nobody else was faster
		c = &client{api: ecr.NewFromConfig(config)}
		e.clients[r] = c
	}
	return c, nil
}

// turn waits for the client's turn and asks for a page.
func turn[T any](ctx context.Context, c *client, what, permission string, ask func(context.Context, ...func(*ecr.Options)) (T, error)) (T, error) {
	var none T
	if err := until(ctx, c.pace.Turn(time.Now())); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	within, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	out, err := ask(within)
	if err == nil {
		return out, nil
	}
	err = refused(what, err, permission, "ecr.api")
	if fault.Is(err, fault.Exhausted) {
		c.pace.Pause(time.Now().Add(throttledFor))
	}
	return none, err
}

// until waits until t or for the end of ctx.
func until(ctx context.Context, t time.Time) error {
	wait := time.Until(t)
	if wait <= 0 {
		return ctx.Err()
	}
	if !pace.Wait(ctx, wait) {
		return ctx.Err()
	}
	return nil
}

// imageOf reads what ECR tells of an image; ok is false for one that isn't
// wanted, and for what is no image.
func imageOf(repository string, d types.ImageDetail, want func(string) bool) (asset.RegistryImage, bool) {
	image := asset.RegistryImage{
		Repository: repository, Digest: sdk.ToString(d.ImageDigest), Pushed: sdk.ToTime(d.ImagePushedAt), Size: sdk.ToInt64(d.ImageSizeInBytes),
	}
	usable := d.ImageStatus == "" || d.ImageStatus == types.ImageStatusActive
	if !usable || d.SubjectManifestDigest != nil || !isImage(sdk.ToString(d.ArtifactMediaType)) || inventory.CheckDigest(image.Digest) != nil {
		return asset.RegistryImage{}, false
	}
	for _, t := range d.ImageTags {
		if asset.IsTag(t) && !asset.IsAttachedTag(t) && want(t) {
			image.Tags = append(image.Tags, t)
		}
	}
	return image, len(image.Tags) > 0
}

// isImage says whether an artifact of that type is an image: ECR tells the type
// of the configuration, and nothing for an index.
func isImage(artifact string) bool {
	switch strings.ToLower(artifact) {
	case "", "application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json",
		"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json":
		return true
	}
	return false
}
