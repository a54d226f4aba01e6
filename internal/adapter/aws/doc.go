// Package aws is the door to Amazon Web Services: the only place that imports
// their SDK.
//
// So far it gives the credentials for the registries of Amazon ECR. It finds its
// own in the SDK's usual order (environment, shared files, web identity, the
// task's role, the instance's profile), and honours AWS_ENDPOINT_URL. It keeps
// nothing on disk and logs no secret.
//
// It is not for pulling images: package oci does that, and is given ECR's
// Credentials.
package aws
