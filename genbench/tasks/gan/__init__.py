"""Two players: how they learn, and how the Dirac-GAN and the image GANs are judged and drawn."""
