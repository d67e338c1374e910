"""Surfaces in space: `clouds` reads points and refuses what is none; `normals` says which way a surface faces; `anomalies` lays Perlin
bumps and dents on it (3D-PNAS-style)."""
