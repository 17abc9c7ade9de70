"""Model files that travel with SphereCV: the manifest, prototxts and the default model. Data only."""
